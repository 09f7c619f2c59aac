from support.hub_fixtures import hub, progress, stop

__all__ = ["hub", "progress", "stop"]
