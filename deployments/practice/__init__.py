"""The practice estate: a Kubernetes API server with controllers, and a Prometheus. Production never imports it.

How a release fares is decided by what stands in its manifest. The pod template's annotation
`practice.changecontrol.io/behaviour` (`good`, `bad-image`, `never-ready`, `crash-loop`, `slow-leak`, `slow-start`,
`fail`) counts first; else a mark in the image's repository or tag (what stands before `@`):

    bad           the image cannot be pulled: ErrImagePull, then ImagePullBackOff; never ready
    never-ready   runs, and is never ready
    crash         starts, ends with code 1, CrashLoopBackOff
    slow-leak     ready like a good one; about 20 s later its cohort's unsynchronised POS orders rise above 5 %
    slow-start    ready only after 15 s
    fail          a Job's pods end with code 1 (so does a command that ends in `false` or `exit 1`)

An image from a registry whose host ends in `.invalid` cannot be pulled either. Waits are divided by the clock's speed;
time stamps are wall-clock time.
"""
