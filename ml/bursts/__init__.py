"""Bursts of failures among saga events: seen within seconds, and explained."""
