{# Fails for each row for which the expression is not true. #}
{% test holds(model, expression) %}
    select *
    from {{ model }}
    where not coalesce({{ expression }}, 0)
{% endtest %}
