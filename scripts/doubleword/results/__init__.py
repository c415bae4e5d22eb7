"""Result files read to the end, judged and reconciled: one row for each request."""
