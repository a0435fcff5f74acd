/*
 * What the daemon itself cordons: a device that reports errors.
 */
#ifndef MANAGERD_CORDON_H
#define MANAGERD_CORDON_H

struct daemon;

/* Keeps new starts off a device from now on; told as "gpu.cordoned". The text is cut to what a reason may be long. */
void daemon_cordon_gpu(struct daemon *daemon, const char *gpu_uuid, const char *reason);

#endif
