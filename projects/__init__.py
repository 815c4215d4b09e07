"""Published methods and integrations that stand on ``bev``; see README.md."""
