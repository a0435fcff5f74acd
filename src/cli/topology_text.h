/*
 * How GPUs are connected as people read it: the marks of nvidia-smi, what they mean, and links counted.
 */
#ifndef CLI_TOPOLOGY_TEXT_H
#define CLI_TOPOLOGY_TEXT_H

#include <pool/gpu.h>

#include "base/strbuf.h"
#include "cli/table.h"

#define PEER_MARK_MAX 24
/* "NV4" for four NVLinks, else by the way on PCIe: PIX, PXB, PHB, NODE, SYS; "-" when nothing is known. */
void format_peer_mark(const struct pool_gpu_peer *peer, char text[PEER_MARK_MAX]);

struct topology_mark {
    const char *mark, *meaning;
};
/* Every mark, the nearest first; ends with a mark that is NULL. */
extern const struct topology_mark topology_marks[];
/* The one of them that a mark is: "NV4" is "NV#". */
const struct topology_mark *topology_mark_of(const char *mark);

/* How many of its links are active. */
size_t count_active_nvlinks(const struct pool_gpu_info *gpu);
/* "4/6": active of those that it has; "0" for none, "-" when not known. */
void add_nvlinks_cell(struct table *table, const struct pool_gpu_info *gpu);
/* The same as a sentence, with what leads to NVSwitches and to GPUs that are not in the list; empty when not known. */
void describe_nvlinks(const struct pool_gpu_list *list, const struct pool_gpu_info *gpu, struct strbuf *text);

#endif
