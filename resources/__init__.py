"""Every connection, one module each, usable without Dagster too; settings and migrations. May import ``events``."""
