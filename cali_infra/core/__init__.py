"""What cali does: settings, variables, the stage graph, deploy, access, manifests, destroy."""
