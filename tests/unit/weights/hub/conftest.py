from support.hub_fixtures import control, hub, stop

__all__ = ["control", "hub", "stop"]
