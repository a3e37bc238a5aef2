"""What runs together, and when: asset jobs, schedules, retry policy. May import ``assets``; knows no connection."""
