/*
 * What was learned, in memory: the set that the memory registry keeps, and lists for all.
 */
#ifndef CORE_REGISTRY_LEARNED_H
#define CORE_REGISTRY_LEARNED_H

#include <pool/registry.h>

/* Appends a copy. false: no memory. */
bool learned_list_append(struct pool_learned_list *list, const struct pool_learned_use *use);
void learned_list_clear(struct pool_learned_list *list);
/* Adds to what is known of the key, or a new one; at POOL_LEARNED_MAX the one that was not measured for longest goes. */
bool learned_list_merge(struct pool_learned_list *list, const struct pool_learned_use *use);
/* Newest first. false: no memory; `to` has a part then. */
bool learned_list_select(const struct pool_learned_list *from, const char *key, struct pool_learned_list *to);
/* key NULL: all. @return how many there were */
int64_t learned_list_remove(struct pool_learned_list *list, const char *key);

#endif
