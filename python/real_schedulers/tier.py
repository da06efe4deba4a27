"""The CPU tier beside vLLM's scheduler: its own connector, as far as the scheduler runs it, and its own manager of host blocks. What a worker
would do is done here: what is copied to the host is there one step after the step that computed it, what is copied back with the step that
asks for it."""

from types import SimpleNamespace


def connector(config, kv_cache_config, num_blocks):
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
    from vllm.distributed.kv_transfer.kv_connector.v1.offloading.scheduler import OffloadingConnectorScheduler
    from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector
    from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager

    block_size = config.cache_config.block_size
    group = SimpleNamespace(group_id=0, tokens_per_block=block_size, sliding_window_size_in_chunks=None)
    spec = SimpleNamespace(
        config=SimpleNamespace(groups=(group,)),
        blocks_per_chunk=1,
        tokens_per_block=(block_size,),
        tokens_per_hash=block_size,
        offload_prompt_only=True,
        extra_config={},
        kv_events_config=SimpleNamespace(enable_kv_cache_events=False, self_describing_kv_events=False),
        get_manager=lambda: CPUOffloadingManager(num_blocks),
    )
    made = object.__new__(OffloadingConnector)
    made._kv_cache_config, made._kv_cache_manager, made._connector_metadata = kv_cache_config, None, None
    made._vllm_config, made._role = config, KVConnectorRole.SCHEDULER
    made.connector_worker = None
    made.connector_scheduler = OffloadingConnectorScheduler(spec, config, kv_cache_config)
    return made


class Worker:
    def __init__(self):
        self.stores = []

    def step(self, metadata):
        """What it tells with the results of a step that was told this."""
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import OffloadingWorkerMetadata
        from vllm.v1.outputs import KVConnectorOutput

        done = OffloadingWorkerMetadata()
        flushed = [job for job in metadata.store_jobs if job in (metadata.jobs_to_flush or ())]
        for job in [*self.stores, *flushed, *metadata.load_jobs]:
            done.mark_completed(job)
        self.stores = [job for job in metadata.store_jobs if job not in flushed]
        arrived = {transfer.req_id for transfer in metadata.load_jobs.values()}
        return KVConnectorOutput(finished_recving=arrived or None, kv_connector_worker_meta=done if done.completed_jobs else None)
