/*
 * All commands, in the order of the overview: COMMAND(name) is `name_command`, the table in the file of that name. No
 * guard: who includes it says what COMMAND is. One a line, so that commands can be added side by side.
 */
COMMAND(worker_spawn)
COMMAND(worker_list)
COMMAND(worker_show)
COMMAND(worker_wait)
COMMAND(worker_stop)
COMMAND(worker_drain)
COMMAND(worker_logs)
COMMAND(worker_why)
COMMAND(explain)

COMMAND(models_catalog)
COMMAND(models_list)
COMMAND(models_show)
COMMAND(models_estimate)
COMMAND(models_verify)
COMMAND(models_learned_list)
COMMAND(models_learned_export)
COMMAND(models_learned_forget)
COMMAND(models_download)
COMMAND(models_delete)
COMMAND(models_disk)
COMMAND(models_register)
COMMAND(models_unregister)
COMMAND(models_stage)
COMMAND(models_unstage)

COMMAND(gpu_list)
COMMAND(gpu_show)
COMMAND(gpu_processes)
COMMAND(gpu_topology)
COMMAND(gpu_top)
COMMAND(gpu_cordon)
COMMAND(gpu_uncordon)

COMMAND(git_status)
COMMAND(git_pull)
COMMAND(git_sync)
COMMAND(git_submodules_list)
COMMAND(git_submodules_status)
COMMAND(git_submodules_update)
COMMAND(git_submodules_reset)
COMMAND(git_submodules_branch)

COMMAND(dev_doctor)
COMMAND(dev_setup)

COMMAND(status)
COMMAND(events)

COMMAND(config_show)
COMMAND(config_check)

COMMAND(completion)
COMMAND(help)
COMMAND(version)
