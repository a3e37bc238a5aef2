"""Schemas of what administrators send: topics, partitions, records, configurations."""

from __future__ import annotations

from services.embedded.broker.api import NEVER, api

CREATE_TOPICS = api(
    19, "CreateTopics", (0, 4, NEVER),
    """
    topics []
      name string
      num_partitions int32
      replication_factor int16
      assignments []
        index int32
        brokers []int32
      configs []
        name string
        value ?string
    timeout_ms int32
    validate_only bool 1+
    """,
    """
    throttle_time_ms int32 2+
    topics []
      name string
      error_code int16
      error_message ?string 1+
    """,
)  # fmt: skip

DELETE_TOPICS = api(
    20, "DeleteTopics", (0, 3, NEVER),
    """
    names []string
    timeout_ms int32
    """,
    """
    throttle_time_ms int32 1+
    topics []
      name string
      error_code int16
    """,
)  # fmt: skip

DELETE_RECORDS = api(
    21, "DeleteRecords", (0, 1, NEVER),
    """
    topics []
      name string
      partitions []
        index int32
        offset int64
    timeout_ms int32
    """,
    """
    throttle_time_ms int32
    topics []
      name string
      partitions []
        index int32
        low_watermark int64 =-1
        error_code int16
    """,
)  # fmt: skip

DESCRIBE_CONFIGS = api(
    32, "DescribeConfigs", (0, 3, NEVER),
    """
    resources []
      type int8
      name string
      keys ?[]string
    include_synonyms bool 1+
    include_documentation bool 3+
    """,
    """
    throttle_time_ms int32
    results []
      error_code int16
      error_message ?string
      type int8
      name string
      configs []
        name string
        value ?string
        read_only bool
        is_default bool 0-0
        source int8 1+
        is_sensitive bool
        synonyms [] 1+
          name string
          value ?string
          source int8
        type int8 3+
        documentation ?string 3+
    """,
)  # fmt: skip

ALTER_RESPONSE = """
    throttle_time_ms int32
    resources []
      error_code int16
      error_message ?string
      type int8
      name string
"""

ALTER_CONFIGS = api(
    33, "AlterConfigs", (0, 1, NEVER),
    """
    resources []
      type int8
      name string
      configs []
        name string
        value ?string
    validate_only bool
    """,
    ALTER_RESPONSE,
)  # fmt: skip

INCREMENTAL_ALTER_CONFIGS = api(
    44, "IncrementalAlterConfigs", (0, 0, NEVER),
    """
    resources []
      type int8
      name string
      configs []
        name string
        operation int8
        value ?string
    validate_only bool
    """,
    ALTER_RESPONSE,
)  # fmt: skip

CREATE_PARTITIONS = api(
    37, "CreatePartitions", (0, 1, NEVER),
    """
    topics []
      name string
      count int32
      assignments ?[]
        brokers []int32
    timeout_ms int32
    validate_only bool
    """,
    """
    throttle_time_ms int32
    results []
      name string
      error_code int16
      error_message ?string
    """,
)  # fmt: skip
