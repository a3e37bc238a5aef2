{#
    What a build takes in, and when it may say so.

    A landed range is pending until `ops.built_landings` names it. A build notes the pending ranges before its first model
    (intermediate.build_landings), its models read just these, and it marks them as built after the last model, only where
    every model that holds state was part of the build and succeeded. So a build that was killed anywhere leaves its
    ranges pending, and the next one repeats them. Three tables, made here since they belong to dbt alone:

    - intermediate.build_fence: the builds that began. The newest holds the fence; an older one that still runs stops at
      its next model, so that two builds never delete and insert the same rows.
    - intermediate.build_landings: the ranges of the newest build.
    - intermediate.stale_hours: hours in which a touched saga began or ended before it was built again, kept over failed
      builds until one is complete.
#}

{% macro changes_tables() -%}
    {{ return(flags.WHICH in ('run', 'build')) }}
{%- endmacro %}

{# The models that hold state: what a complete build must have built. #}
{% macro stateful_models() -%}
    {{ return(graph.nodes.values()
        | selectattr('resource_type', 'equalto', 'model')
        | selectattr('config.materialized', 'equalto', 'incremental')
        | list) }}
{%- endmacro %}

{% macro begin_build() -%}
    {%- if execute and changes_tables() -%}
        {%- do run_query("create database if not exists intermediate") -%}
        {%- do run_query("create table if not exists intermediate.build_fence (
            invocation_id String comment 'dbt invocation',
            began_at DateTime64(6, 'UTC') default now64(6, 'UTC') comment 'When it began')
            engine = MergeTree order by began_at ttl toDateTime(began_at) + interval 30 day
            comment 'Builds that began; the newest one holds the fence'") -%}
        {%- do run_query("create table if not exists intermediate.build_landings (
            invocation_id String comment 'dbt invocation',
            landing_id String comment 'The landing',
            topic LowCardinality(String) comment 'Topic',
            partition Int32 comment 'Partition',
            from_offset Int64 comment 'First offset, inclusive',
            to_offset Int64 comment 'Last offset, exclusive',
            landed_at DateTime64(6, 'UTC') comment 'Its landing time')
            engine = MergeTree order by (invocation_id, topic, partition, from_offset)
            comment 'Landed ranges that the newest build takes in'") -%}
        {%- do run_query("create table if not exists intermediate.stale_hours (
            saga_type LowCardinality(String) comment 'Kind of saga',
            hour DateTime('UTC') comment 'Hour in which a touched saga began or ended before')
            engine = MergeTree order by (saga_type, hour)
            comment 'Hours to be built again because their sagas moved; emptied by a complete build'") -%}
        {%- do run_query("insert into intermediate.build_fence (invocation_id) values ('" ~ invocation_id ~ "')") -%}
        {%- set stateful = stateful_models() -%}
        {%- set selected = stateful | selectattr('unique_id', 'in', selected_resources) | list -%}
        {%- set missing = stateful | length - run_query(
            "select count() from system.tables where concat(database, '.', name) in ("
            ~ "'" ~ (stateful | map(attribute='relation_name') | join("', '") | replace('`', '')) ~ "')"
        ).rows[0][0] -%}
        {#- A table that is missing, or made anew, is whole only after all landings went in: until a complete build says
            so they are all pending, also for the build after one that was killed half-way. -#}
        {%- if missing or (flags.FULL_REFRESH and selected) -%}
            {%- do run_query("truncate table ops.built_landings") -%}
        {%- endif -%}
        {%- do run_query("truncate table intermediate.build_landings") -%}
        {%- do run_query("insert into intermediate.build_landings
            select '" ~ invocation_id ~ "', landing_id, topic, partition, from_offset, to_offset, landed_at
            from raw.landings final
            where (landing_id, landed_at) not in (select landing_id, landed_at from ops.built_landings final)") -%}
    {%- endif -%}
{%- endmacro %}

{% macro end_build(results) -%}
    {%- if execute and changes_tables() -%}
        {%- set succeeded = results
            | selectattr('status', 'equalto', 'success')
            | map(attribute='node.unique_id')
            | list -%}
        {%- set left = stateful_models() | rejectattr('unique_id', 'in', succeeded) | list -%}
        {%- set holder = run_query("select argMax(invocation_id, began_at) from intermediate.build_fence").rows[0][0] -%}
        {%- if left -%}
            {%- do log("landings stay pending: not built in this run: " ~ left | map(attribute='name') | join(', '), info=true) -%}
        {%- elif holder != invocation_id -%}
            {%- do log("landings stay pending: a newer build has taken over", info=true) -%}
        {%- else -%}
            {#- In this order: a kill between the two only builds some hours once more. -#}
            {%- do run_query("insert into ops.built_landings (landing_id, landed_at, invocation_id)
                select landing_id, landed_at, invocation_id from intermediate.build_landings
                where invocation_id = '" ~ invocation_id ~ "'") -%}
            {%- do run_query("truncate table intermediate.stale_hours") -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# A pre-hook: fails where a newer build holds the fence. #}
{% macro hold_fence() -%}
    select throwIf(
        (select argMax(invocation_id, began_at) from intermediate.build_fence) != '{{ invocation_id }}',
        'a newer dbt build has taken over; this one stops'
    )
{%- endmacro %}

{# The one or two hours in which a saga began and ended, a row each. #}
{% macro hours_of_saga() -%}
    arrayJoin(
        if(isNull(ended_at), [toStartOfHour(started_at)],
            [toStartOfHour(started_at), toStartOfHour(assumeNotNull(ended_at))])
    )
{%- endmacro %}

{# A pre-hook of fct_sagas: keeps the hours of the touched sagas as they stand, before the sagas are built again. #}
{% macro keep_stale_hours() -%}
    {%- if is_incremental() -%}
        insert into intermediate.stale_hours
        select distinct saga_type, {{ hours_of_saga() }} as hour
        from {{ this }}
        where saga_id in (select saga_id from {{ ref('int_touched_sagas') }})
    {%- endif -%}
{%- endmacro %}

{#
    A predicate over (partition, offset) that holds for the pending ranges of a topic: literal, so that the primary key
    of raw.events prunes by it. Adjoining ranges are one; where too many are left, one range a partition, which is more
    than is pending and does no harm.
#}
{% macro is_pending(topic) -%}
    {%- set ranges = run_query("
        with grown as (
            select partition, from_offset, to_offset,
                max(to_offset) over (
                    partition by partition order by from_offset, to_offset rows between unbounded preceding and 1 preceding
                ) as reached
            from intermediate.build_landings
            where invocation_id = '" ~ invocation_id ~ "' and topic = '" ~ topic ~ "'
        ),
        numbered as (
            select partition, from_offset, to_offset,
                sum(from_offset > reached) over (
                    partition by partition order by from_offset, to_offset rows between unbounded preceding and current row
                ) as island
            from grown
        )
        select partition, min(from_offset) as low, max(to_offset) as high
        from numbered group by partition, island order by partition, low") -%}
    {%- set rows = ranges.rows -%}
    {%- if rows | length > var('max_pending_ranges') -%}
        {%- set widened = {} -%}
        {%- for row in rows -%}
            {%- set known = widened.get(row[0], [row[1], row[2]]) -%}
            {%- do widened.update({row[0]: [[known[0], row[1]] | min, [known[1], row[2]] | max]}) -%}
        {%- endfor -%}
        {%- set rows = [] -%}
        {%- for partition, bounds in widened.items() -%}
            {%- do rows.append([partition, bounds[0], bounds[1]]) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if not rows -%}
        1 = 0
    {%- else -%}
        (
        {%- for row in rows %}
            {{ 'or ' if not loop.first }}(partition = {{ row[0] }} and offset >= {{ row[1] }} and offset < {{ row[2] }})
        {%- endfor %}
        )
    {%- endif -%}
{%- endmacro %}
