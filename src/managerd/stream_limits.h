/*
 * The limits of answers that grow, each with its reason; how many there may be and how far a reader may be behind are
 * the HTTP server's.
 */
#ifndef MANAGERD_STREAM_LIMITS_H
#define MANAGERD_STREAM_LIMITS_H

#define EVENT_MAX_BYTES    (1 << 20) /* the backlog of a reader: a larger one would reach nobody */
#define LOG_TAIL_LINES     100
#define LOG_TAIL_LINES_MAX 10000     /* more is a file to be copied, not an answer */
#define LOG_TAIL_MAX_BYTES (1 << 20) /* of the end of a log that are looked at */
#define LOG_LOOK_MS        250       /* how often a followed log is looked at */

#endif
