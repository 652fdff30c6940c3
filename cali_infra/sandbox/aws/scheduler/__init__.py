"""EventBridge Scheduler with one-time schedules that call EKS, on a clock that a test may move.

`service.Scheduler` puts it together. moto's own is not used: its schedules never run, it takes any role and
any input, and it makes a group anew over one that exists.
"""
