"""The shop in real time: participants as processes of their own with stores of their own, durable order sagas.

What belongs here: the real counterparts of ``examples.shop.world``. What does not: how a participant queues, works and
suffers faults (that code is the world's, on another clock), and what a saga does (``examples.client``).
"""
