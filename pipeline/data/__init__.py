"""The data room: from public downloads to tensors.

    download_dataset(name, params, raw_dir, mirror)                 pipeline.data.raw.download
    shard_dataset(name, params, raw_dir, out_dir, num_processes)    pipeline.data.shards.make
    ShardFolder(out_dir)                                            pipeline.data.shards.folder
    load_samples(shards, split, parts, sample_shape) -> Samples     pipeline.data.load.samples
"""
