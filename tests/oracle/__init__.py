"""The oracle: every figure of the marts, computed again by Polars from a data set's files.

What belongs here: a second, independent way from files to figures, written from the documented definitions
(``dbt_project/models/**/*.yml``) and the data set's own description. What does not: any code of the platform; these
modules import nothing of ours, so that an error there cannot hide here.
"""
