"""Early warnings: what a person should know while there is still time, one file each. None of them ever acts.

Each is `rule(readings, limits) -> Judged[WarningState]` and ends further back than it starts, so that a figure that swings
around its limit raises one alert. `strategy/carry/rulebook.py` lists them.
"""
