"""Running containers: conmon, crun, exec, attach, logs."""
