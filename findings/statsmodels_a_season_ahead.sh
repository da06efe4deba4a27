#!/usr/bin/env bash
# statsmodels' Holt-Winters: a forecast exactly one season ahead (or two, or three) uses a season that is one season old.
#
# The additive form forecasts h steps ahead with the latest estimate of the season that falls there. `ExponentialSmoothing` does for all h
# but the multiples of the period: there it takes what had been estimated a period before the last observation, so that the last
# observation of that season counts for nothing. A series that has just jumped in its last observation shows it: one step of the season
# later the forecast knows of the jump in its level only. A planner that asks for the same hour of tomorrow asks just there.
#
# Seen with statsmodels 0.14.6 (Python 3.11), November 2026, constants given, period 4, forecasts 1 to 8 less those of the recursion:
#   0 0 0 -4.109 0 0 0 -4.109
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'statsmodels==0.14.6'
cat > "$work/look.py" <<'PY'
import statsmodels
from statsmodels.tsa.holtwinters import ExponentialSmoothing

assert statsmodels.__version__ == "0.14.6", statsmodels.__version__
LEVEL, TREND, SEASON, DAMPING, PERIOD = 0.5, 0.1, 0.3, 0.9, 4
SERIES = [130.0, 90, 60, 110, 150, 95, 55, 130, 160, 100, 70, 140]

model = ExponentialSmoothing(SERIES, trend="add", damped_trend=True, seasonal="add", seasonal_periods=PERIOD,
                             initialization_method="known", initial_level=100.0, initial_trend=0.0, initial_seasonal=[0.0] * PERIOD)
fitted = model.fit(smoothing_level=LEVEL, smoothing_trend=TREND, smoothing_seasonal=SEASON, damping_trend=DAMPING, optimized=False)
theirs = [float(value) for value in fitted.forecast(2 * PERIOD)]

level, trend, seasons = 100.0, 0.0, [0.0] * PERIOD
for step, value in enumerate(SERIES):
    expected, season = level + DAMPING * trend, seasons[step % PERIOD]
    new_level = LEVEL * (value - season) + (1 - LEVEL) * expected
    trend = TREND * (new_level - level) + (1 - TREND) * DAMPING * trend
    level = new_level
    seasons[step % PERIOD] = SEASON * (value - expected) + (1 - SEASON) * season
ours = [level + trend * sum(DAMPING**i for i in range(1, ahead + 1)) + seasons[(len(SERIES) + ahead - 1) % PERIOD]
        for ahead in range(1, 2 * PERIOD + 1)]

off = [round(a - b, 4) + 0.0 for a, b in zip(theirs, ours)]
print("forecasts less the recursion's:", off)
assert all(value == 0 for ahead, value in enumerate(off, 1) if ahead % PERIOD), off
assert off[PERIOD - 1] == off[2 * PERIOD - 1] == -4.109, off
PY
"$work/venv/bin/python" "$work/look.py"
