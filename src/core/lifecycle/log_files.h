/*
 * How long the logs of ended workers stay: as long as the history names them. Logs that no record names (whoever was to
 * remove them was killed, or knew of no end of logs) go in a sweep. Only what is surely one of ours is removed: a regular
 * file of the manager's own user under the name that a start gives, whose lock nobody holds. Callers hold the lock of the
 * state directory, so that no start is under way.
 */
#ifndef LIFECYCLE_LOG_FILES_H
#define LIFECYCLE_LOG_FILES_H

struct pool_manager;

#define LOG_SWEEP_ENTRIES_MAX 65536 /* of the folder looked at in one sweep */

/*
 * An end was recorded; `leaving`, NULL: nobody, was dropped from the history. Sweeps now and then, where there are more files
 * than the history has records. As well as can be.
 */
void log_files_follow(struct pool_manager *manager, const char *leaving);
/*
 * Removes what no record names. Logs from before the registry began are of workers whose records were lost with the one
 * before: they take the room that the history has left, and the oldest of them go first. As well as can be.
 */
void log_files_sweep(struct pool_manager *manager);

#endif
