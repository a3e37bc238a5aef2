"""Schemas of what producers and consumers send: produce, fetch, offsets, metadata, versions."""

from __future__ import annotations

from services.embedded.broker.api import NEVER, api

# Version 0 is listed though only 3 and later work: librdkafka and others test for its presence (KAFKA-18659).
PRODUCE = api(
    0, "Produce", (0, 8, NEVER),
    """
    transactional_id ?string 3+
    acks int16
    timeout_ms int32
    topics []
      name string
      partitions []
        index int32
        records ?bytes
    """,
    """
    topics []
      name string
      partitions []
        index int32
        error_code int16
        base_offset int64 =-1
        log_append_time_ms int64 2+ =-1
        log_start_offset int64 5+ =-1
        record_errors [] 8+
          batch_index int32
          message ?string
        error_message ?string 8+
    throttle_time_ms int32 1+
    """,
)  # fmt: skip

FETCH = api(
    1, "Fetch", (4, 11, NEVER),
    """
    replica_id int32
    max_wait_ms int32
    min_bytes int32
    max_bytes int32
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ =-1
    topics []
      name string
      partitions []
        index int32
        current_leader_epoch int32 9+ =-1
        fetch_offset int64
        log_start_offset int64 5+ =-1
        partition_max_bytes int32
    forgotten [] 7+
      name string
      partitions []int32
    rack_id string 11+
    """,
    """
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    topics []
      name string
      partitions []
        index int32
        error_code int16
        high_watermark int64 =-1
        last_stable_offset int64 =-1
        log_start_offset int64 5+ =-1
        aborted ?[]
          producer_id int64
          first_offset int64
        preferred_read_replica int32 11+ =-1
        records ?bytes
    """,
)  # fmt: skip

LIST_OFFSETS = api(
    2, "ListOffsets", (1, 7, 6),
    """
    replica_id int32
    isolation_level int8 2+
    topics []
      name string
      partitions []
        index int32
        current_leader_epoch int32 4+ =-1
        timestamp int64
    """,
    """
    throttle_time_ms int32 2+
    topics []
      name string
      partitions []
        index int32
        error_code int16
        timestamp int64 =-1
        offset int64 =-1
        leader_epoch int32 4+ =-1
    """,
)  # fmt: skip

METADATA = api(
    3, "Metadata", (0, 12, 9),
    """
    topics ?[]
      topic_id uuid 10+
      name ?string
    allow_auto_topic_creation bool 4+ =1
    include_cluster_authorized_operations bool 8-10
    include_topic_authorized_operations bool 8+
    """,
    """
    throttle_time_ms int32 3+
    brokers []
      node_id int32
      host string
      port int32
      rack ?string 1+
    cluster_id ?string 2+
    controller_id int32 1+
    topics []
      error_code int16
      name ?string
      topic_id uuid 10+
      is_internal bool 1+
      partitions []
        error_code int16
        index int32
        leader_id int32 =1
        leader_epoch int32 7+ =-1
        replicas []int32
        isr []int32
        offline []int32 5+
      authorized_operations int32 8+ =-2147483648
    cluster_authorized_operations int32 8-10 =-2147483648
    """,
)  # fmt: skip

API_VERSIONS = api(
    18, "ApiVersions", (0, 3, 3),
    """
    client_software_name string 3+
    client_software_version string 3+
    """,
    """
    error_code int16
    apis []
      key int16
      first int16
      last int16
    throttle_time_ms int32 1+
    """,
)  # fmt: skip
