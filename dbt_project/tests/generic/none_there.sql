{# Fails for each row there is. #}
{% test none_there(model) %}
    select *
    from {{ model }}
{% endtest %}
