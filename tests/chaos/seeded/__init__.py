"""Whole lives of positions on stepped time, with schedules of faults drawn by a seed."""
