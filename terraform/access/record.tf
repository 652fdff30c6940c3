# Who has access and whose was taken away, kept in this state and not in one laptop's file. It holds the
# creator too if it was listed, although its entry is left alone.
resource "terraform_data" "record" {
  input = {
    principals = var.principals
    revoked    = var.revoked
  }

  lifecycle {
    precondition {
      condition     = length(setintersection(keys(var.principals), keys(var.revoked))) == 0
      error_message = "On both lists, principals and revoked: ${join(", ", setintersection(keys(var.principals), keys(var.revoked)))}."
    }
  }
}
