/*
 * TOML of strangers: whatever the bytes, the tree is whole (strings terminated, children where they belong) and an
 * error has a message.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t walk(const struct toml_node *node, int depth)
{
    /* 64 brackets times 32 parts of a key, and below a header of 32 parts, each of them an array of tables */
    if (depth > 64 * 32 + 2 * 32 + 32)
        abort();
    size_t n = 1;
    if (node->kind == TOML_STRING && (!node->text || node->text[node->n_text] != '\0'))
        abort();
    if (node->key)
        n += strlen(node->key);
    if (node->kind != TOML_TABLE && node->kind != TOML_ARRAY && node->n_children > 0)
        abort();
    for (size_t i = 0; i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        if ((node->kind == TOML_TABLE) != (child->key != NULL))
            abort();
        if (child->key && !toml_child(node, child->key))
            abort();
        n += walk(child, depth + 1);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct toml_error error = { 0 };
    struct toml_document *document = toml_parse((const char *)data, size, &error);
    if (!document) {
        if (error.message[0] == '\0' || memchr(error.message, '\0', sizeof error.message) == NULL)
            abort();
        return 0;
    }
    if (walk(toml_root(document), 0) == 0)
        abort();
    toml_free(document);
    return 0;
}
