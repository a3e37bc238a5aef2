"""Knowledge: the incident write-ups and runbooks that fit a question, with the reasons and how sure the answer is."""
