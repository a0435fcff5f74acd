/*
 * Templates of arguments; see config_template.h.
 */
#include "core/config_template.h"

#include <string.h>

static const char *const names[] = {
#define PLACEHOLDER_NAME(name, text) text,
    POOL_PLACEHOLDERS(PLACEHOLDER_NAME)
#undef PLACEHOLDER_NAME
};

#define N_NAMES (sizeof names / sizeof names[0])

const char *template_placeholder_name(enum pool_placeholder placeholder)
{
    return names[placeholder];
}

static enum template_kind read_brace(const char **at, struct template_piece *piece)
{
    const char *open = *at;
    if (open[1] == open[0]) {
        piece->text = open;
        piece->n = 1;
        *at = open + 2;
        return TEMPLATE_LITERAL;
    }
    const char *close = *open == '{' ? strpbrk(open + 1, "{}") : NULL;
    if (!close || *close != '}') {
        piece->text = open;
        piece->n = 1;
        *at = open + 1;
        return TEMPLATE_STRAY_BRACE;
    }
    piece->text = open + 1;
    piece->n = (size_t)(close - open - 1);
    *at = close + 1;
    for (size_t i = 0; i < N_NAMES; i++) {
        if (strlen(names[i]) == piece->n && memcmp(names[i], piece->text, piece->n) == 0) {
            piece->placeholder = (enum pool_placeholder)i;
            return TEMPLATE_PLACEHOLDER;
        }
    }
    return TEMPLATE_UNKNOWN;
}

enum template_kind template_next(const char **at, struct template_piece *piece)
{
    *piece = (struct template_piece){ .kind = TEMPLATE_END, .text = *at };
    if (**at == '\0')
        return TEMPLATE_END;
    if (**at == '{' || **at == '}') {
        piece->kind = read_brace(at, piece);
        return piece->kind;
    }
    piece->kind = TEMPLATE_LITERAL;
    piece->n = strcspn(*at, "{}");
    *at += piece->n;
    return TEMPLATE_LITERAL;
}

unsigned template_placeholders(const char *text)
{
    unsigned set = 0;
    struct template_piece piece;
    while (template_next(&text, &piece) != TEMPLATE_END) {
        if (piece.kind == TEMPLATE_PLACEHOLDER)
            set |= TEMPLATE_BIT(piece.placeholder);
    }
    return set;
}
