/*
 * Outcomes of requests to the orchestrator; see heartbeat_outcome.h. Owns their names.
 */
#include "managerd/heartbeat_outcome.h"

#include <stdio.h>

const char *heartbeat_kind_name(enum heartbeat_kind kind)
{
    static const char *const names[] = {
#define HEARTBEAT_X(name, text) [HEARTBEAT_##name] = text,
        HEARTBEAT_KINDS(HEARTBEAT_X)
#undef HEARTBEAT_X
    };
    return (unsigned)kind < HEARTBEAT_N_KINDS ? names[kind] : "unknown";
}

const char *heartbeat_outcome_name(enum heartbeat_outcome outcome)
{
    static const char *const names[] = {
#define HEARTBEAT_X(name, text) [HEARTBEAT_OUTCOME_##name] = text,
        HEARTBEAT_OUTCOMES(HEARTBEAT_X)
#undef HEARTBEAT_X
    };
    return (unsigned)outcome < HEARTBEAT_N_OUTCOMES ? names[outcome] : "unknown";
}

enum heartbeat_outcome heartbeat_outcome_of(const struct http_client_answer *answer,
                                            char problem[HEARTBEAT_PROBLEM_MAX])
{
    snprintf(problem, HEARTBEAT_PROBLEM_MAX, "%s", answer->problem);
    switch (answer->result) {
    case HTTP_CLIENT_UNREACHABLE: return HEARTBEAT_OUTCOME_UNREACHABLE;
    case HTTP_CLIENT_TIMEOUT: return HEARTBEAT_OUTCOME_TIMEOUT;
    case HTTP_CLIENT_BAD_ANSWER: return HEARTBEAT_OUTCOME_BAD_ANSWER;
    case HTTP_CLIENT_NO_MEMORY: return HEARTBEAT_OUTCOME_NOT_SENT;
    case HTTP_CLIENT_ANSWERED: break;
    }
    if (answer->status >= 200 && answer->status < 300)
        return HEARTBEAT_OUTCOME_OK;
    snprintf(problem, HEARTBEAT_PROBLEM_MAX, "status %d", answer->status);
    if (answer->status == 404)
        return HEARTBEAT_OUTCOME_UNKNOWN_POOL;
    if (answer->status >= 400 && answer->status < 500)
        return HEARTBEAT_OUTCOME_REFUSED;
    return answer->status >= 500 ? HEARTBEAT_OUTCOME_SERVER_ERROR : HEARTBEAT_OUTCOME_BAD_ANSWER;
}

bool heartbeat_status_may_pass(int status)
{
    static const int passing[] = { 401, 403, 408, 425, 429 };
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        if (status == passing[i])
            return true;
    }
    return false;
}
