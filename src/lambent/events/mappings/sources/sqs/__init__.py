"""Queues that speak the SQS contract: Lambent's own, and those of other endpoints that the operator named."""
