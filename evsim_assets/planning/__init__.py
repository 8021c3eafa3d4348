"""What `evsim plan` says before anything runs."""
