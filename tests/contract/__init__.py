"""What the Kubernetes half promises, held to the stand-in always and to a real cluster where one is named."""
