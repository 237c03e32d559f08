"""The data room: from public downloads to tensors.

    download_dataset(name, params, raw_dir, mirror)              pipeline.data.download
    shard_dataset(name, params, raw_dir, out_dir, num_processes) pipeline.data.shards
    load_split(shards_dir, split, image_size, parts) -> Dataset  pipeline.data.loading
    ShardStore(shards_dir, split, image_size, parts, ...)        pipeline.data.shard_store
"""
