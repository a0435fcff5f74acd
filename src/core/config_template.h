/*
 * The text of a command's argument or an environment value: literal pieces and placeholders in braces, with {{
 * and }} for the braces themselves. Who fills the placeholders in is not known here.
 */
#ifndef CORE_CONFIG_TEMPLATE_H
#define CORE_CONFIG_TEMPLATE_H

#include <pool/config.h>

enum template_kind {
    TEMPLATE_LITERAL,     /* text, n */
    TEMPLATE_PLACEHOLDER, /* placeholder */
    TEMPLATE_UNKNOWN,     /* text, n: the name between the braces */
    TEMPLATE_STRAY_BRACE, /* text: where it is */
    TEMPLATE_END
};

struct template_piece {
    enum template_kind kind;
    enum pool_placeholder placeholder;
    const char *text; /* borrowed from the template */
    size_t n;
};

/* Takes the next piece off *at. After UNKNOWN and STRAY_BRACE it goes on behind the fault. */
enum template_kind template_next(const char **at, struct template_piece *piece);
/* "model_path" and so on. Static. */
const char *template_placeholder_name(enum pool_placeholder placeholder);
/* The set of placeholders in a template, a bit each: 1u << POOL_PLACEHOLDER_… */
unsigned template_placeholders(const char *text);

#define TEMPLATE_BIT(placeholder) (1U << (placeholder))
#define TEMPLATE_GPU_BITS                                                                    \
    (TEMPLATE_BIT(POOL_PLACEHOLDER_GPU_ORDINAL) | TEMPLATE_BIT(POOL_PLACEHOLDER_GPU_INDEX) | \
     TEMPLATE_BIT(POOL_PLACEHOLDER_GPU_UUID) | TEMPLATE_BIT(POOL_PLACEHOLDER_GPU_MEMORY_FRACTION))

#endif
