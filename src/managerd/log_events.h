/*
 * The one list of what the daemon logs: names of events and their levels. docs/daemon.md explains them, and a test holds
 * the two together. Names are stable: people's searches and alerts are made of them.
 *
 * A row: X(NAME, "name", LEVEL, "what it says")
 */
#ifndef MANAGERD_LOG_EVENTS_H
#define MANAGERD_LOG_EVENTS_H

#define LOG_EVENTS(X)                                                                                        \
    X(STARTED, "daemon.started", INFO, "It serves: version, pool, epoch.")                                   \
    X(LISTENING, "daemon.listening", INFO, "An address, a socket, or sockets of the service manager.")       \
    X(START_FAILED, "daemon.failed", ERROR, "It cannot come up: the error's code and message.")              \
    X(STOPPING, "daemon.stopping", INFO, "Why it ends, and what becomes of its workers.")                    \
    X(STOPPED, "daemon.stopped", INFO, "It has ended in order.")                                             \
    X(CONFIG_WARNING, "config.warning", WARNING, "Something odd in the configuration, with file and line.")  \
    X(CONFIG_ERROR, "config.error", ERROR, "A fault in the configuration, with file and line.")              \
    X(TOKENS_LOADED, "tokens.loaded", INFO, "How many tokens are in force after SIGHUP.")                    \
    X(TOKENS_REFUSED, "tokens.refused", ERROR,                                                               \
      "The token file has a fault; the tokens before stay in force.")                                        \
    X(CATALOG_LOADED, "catalog.loaded", INFO, "How many models the catalogs name, after SIGHUP.")            \
    X(CATALOG_REFUSED, "catalog.refused", ERROR,                                                             \
      "A changed catalog has a fault; what it said before stays in force.")                                  \
    X(CATALOG_MENDED, "catalog.mended", INFO, "It can be read again, and is in force.")                      \
    X(ACCESS_DENIED, "access.denied", WARNING, "A client without a good token, or of too small a scope.")    \
    X(HTTP_ANSWERED, "http.answered", DEBUG, "A request that reads, with route, status and duration.")       \
    X(HTTP_CHANGED, "http.changed", INFO, "A request that changes something, and who sent it.")              \
    X(REGISTRY_NOTICE, "registry.notice", WARNING, "The registry was set aside or rebuilt.")                 \
    X(RECORD_FAILED, "registry.record_failed", WARNING, "Something happened and could not be recorded yet.") \
    X(ADOPTED, "workers.adopted", INFO, "How many running workers were taken over.")                         \
    X(WORKER_SPAWNING, "worker.spawning", INFO, "Its program runs.")                                         \
    X(WORKER_READY, "worker.ready", INFO, "It answers, and the port is its own.")                            \
    X(WORKER_BUSY, "worker.busy", DEBUG, "It has requests in flight.")                                       \
    X(WORKER_IDLE, "worker.idle", DEBUG, "It has none any more.")                                            \
    X(WORKER_STOPPING, "worker.stopping", INFO, "It was asked to end.")                                      \
    X(WORKER_STOPPED, "worker.stopped", INFO, "It is gone; reason says why.")                                \
    X(WORKER_STOP, "worker.stop_decided", INFO,                                                              \
      "The daemon stops it: idle too long, drained, or unhealthy.")                                          \
    X(WORKER_STUCK, "worker.stuck", WARNING, "It cannot be killed.")                                         \
    X(WORKER_BUNDLE_FAILED, "worker.bundle_failed", WARNING, "Why it died could not be kept in a bundle.")   \
    X(WORKER_UNHEALTHY, "worker.unhealthy", WARNING, "Its health probes fail.")                              \
    X(WORKER_HEALTHY, "worker.healthy", INFO, "It answers again.")                                           \
    X(WORKER_NOT_ON_GPU, "worker.not_on_gpu", WARNING,                                                       \
      "It answers and does not hold its GPU's memory: numbers.")                                             \
    X(WORKER_ON_GPU, "worker.on_gpu", INFO, "It does again.")                                                \
    X(WORKER_UNWATCHED, "worker.unwatched", WARNING, "It cannot be watched for now; tried again.")           \
    X(DRAIN_LATE, "worker.drain_late", WARNING, "A drained worker still has requests; it is stopped.")       \
    X(ACTIVITY_UNKNOWN, "worker.activity_unknown", WARNING, "It does not say how busy it is.")               \
    X(WORKER_STARTED, "start.succeeded", INFO, "A start came to its end: worker, duration.")                 \
    X(WORKER_START_FAILED, "start.failed", WARNING, "A start failed for good: worker, code, duration.")      \
    X(REAPED, "children.reaped", DEBUG, "Orphans of others, as PID 1.")                                      \
    X(GPU_CORDONED, "gpu.cordoned", INFO, "No new worker is placed on a device, and why.")                   \
    X(GPU_UNCORDONED, "gpu.uncordoned", INFO, "New workers may be placed on it again.")                      \
    X(GPU_CORDON_FAILED, "gpu.cordon_failed", ERROR, "The daemon wanted to cordon a device and could not.")  \
    X(MODEL_VERIFIED, "model.verified", INFO, "A model's files were hashed, and are right.")                 \
    X(MODEL_UNVERIFIED, "model.verify_failed", WARNING, "They are not, or it was cut short.")                \
    X(MODEL_STAGED, "model.staged", INFO, "A model was read into RAM: bytes, locked or not.")                \
    X(MODEL_UNSTAGED, "model.unstaged", INFO, "It was given up, and why.")                                   \
    X(MODEL_STAGE_FAILED, "model.stage_failed", WARNING, "It could not be read, or does not fit.")           \
    X(GPU_STALE, "gpu.stale", WARNING, "The driver has not answered for a while.")                           \
    X(GPU_TROUBLE, "gpu.trouble", WARNING, "The helper that asks the driver had to be replaced, and why.")   \
    X(GPU_FAULT, "gpu.fault", WARNING, "A device reports an error of one program.")                          \
    X(GPU_FAULT_SERIOUS, "gpu.fault_serious", ERROR, "A device reports an error, and is cordoned.")          \
    X(ORCHESTRATOR_ANSWERED, "orchestrator.answered", DEBUG, "A heartbeat or registration was taken.")       \
    X(ORCHESTRATOR_FAILED, "orchestrator.failed", WARNING, "One was not; it is tried again.")                \
    X(LOG_LEVEL, "log.level", INFO, "The level was changed by SIGUSR1.")                                     \
    X(LOG_DROPPED, "log.dropped", WARNING, "Lines that nobody took were lost.")

#endif
