"""Stage `report`: every report on one page, with its pictures inside.

Reads the reports of the stages before it. Writes `reports/report.html`.
Imports `base` and `runtime`.
"""
