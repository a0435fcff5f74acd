/*
 * What the files of this room share: the implementations of an inventory, and small things that both need.
 * Not public; pool/gpu.h is.
 */
#ifndef GPU_INVENTORIES_H
#define GPU_INVENTORIES_H

#include <pool/gpu.h>

extern const struct pool_gpu_inventory_ops gpu_nvml_ops;
extern const struct pool_gpu_inventory_ops gpu_static_ops;

/* Appends to list->reason, "; " between two; cut with "..." when it is full. */
void gpu_list_add_reason(struct pool_gpu_list *list, const char *format, ...) POOL_PRINTF(2, 3);
/* Marks a device unhealthy. The first reason stays: it is the nearest to the cause. */
void gpu_info_set_unhealthy(struct pool_gpu_info *info, const char *format, ...) POOL_PRINTF(2, 3);
/* Appends one process; false when memory is out. */
bool gpu_info_add_process(struct pool_gpu_info *info, const struct pool_gpu_process *process);
/* Marks every device unhealthy whose UUID another device has too: it could not be told apart. */
void gpu_list_refuse_duplicates(struct pool_gpu_list *list);
/*
 * Whether a text can be the UUID of a device: letters, digits and "-_./:" alone. It is handed to workers in
 * CUDA_VISIBLE_DEVICES, where a comma or a space would change the meaning, and an index is not a UUID.
 */
bool gpu_uuid_is_usable(const char *text);

#endif
