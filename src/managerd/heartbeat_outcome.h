/*
 * What an answer of the orchestrator comes to.
 */
#ifndef MANAGERD_HEARTBEAT_OUTCOME_H
#define MANAGERD_HEARTBEAT_OUTCOME_H

#include "managerd/heartbeat.h"
#include "managerd/http_client.h"

#define HEARTBEAT_PROBLEM_MAX 256

/* `problem` is for people, "" when all is well. */
enum heartbeat_outcome heartbeat_outcome_of(const struct http_client_answer *answer,
                                            char problem[HEARTBEAT_PROBLEM_MAX]);
/* Whether a 4xx is about the moment or the sender and not about what was said. */
bool heartbeat_status_may_pass(int status);

#endif
