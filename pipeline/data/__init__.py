"""The data room: from public downloads to tensors.

    download_dataset(name, params, raw_dir, mirror)                  pipeline.data.raw.download
    shard_dataset(name, params, raw_dir, out_dir, num_processes)     pipeline.data.shards.make
    load_samples(shards_dir, split, parts, sample_shape) -> Samples  pipeline.data.load.samples
"""
