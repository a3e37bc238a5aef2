select * except (version)
from {{ ref('stg_saga_event_log') }} final
