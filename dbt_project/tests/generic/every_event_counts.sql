{# Fails where the sagas do not hold exactly the events that staging does: a saga was left out, or built too often. #}
{% test every_event_counts(model) %}
    select
        (select count() from {{ ref('stg_saga_events') }}) as events_in_staging,
        (select sum(events) from {{ model }}) as events_in_sagas
    where events_in_staging != events_in_sagas
{% endtest %}
