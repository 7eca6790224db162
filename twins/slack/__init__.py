"""A workspace of Slack with one app and its channels, as its Web API answers."""

from twins.slack.app import SlackTwin

__all__ = ["SlackTwin"]
