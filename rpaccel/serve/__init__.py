"""Serving: the driver behind an asyncio interface, with devices in processes of their own."""

from rpaccel.serve.service import Answer, Service, Status

__all__ = ["Answer", "Service", "Status"]
