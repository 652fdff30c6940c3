# What the three services share. Which pod is how big, and which password each has seen, cali knows: it checks the
# sizes against the node group before anything is made, and the passwords never come here.
locals {
  # The class that the stage `storage` makes.
  storage_class = "gp2"

  # A pod that reads a password from a Secret keeps the one that it started with: it has to start anew when another
  # one stands there. A revision is a keyed hash of all that a Secret holds.
  revision = "cali/credentials-revision"

  # Memory is what a pod asks for and all that it gets, so that what the scheduler has counted is what there is.
  resources = {
    for name, pod in var.pods : name => {
      requests = { cpu = pod.cpu, memory = pod.memory }
      limits   = { memory = pod.memory }
    }
  }
}
