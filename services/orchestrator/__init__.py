"""The advice service: what a running saga should do next, by the policy in force and the champion model.

What belongs here: the process, what it holds in memory, and its HTTP side. What does not: computing policies
(``ml.policy``) and training models (``ml.sagas``).
"""
