"""dbrunner for Prefect 3: blocks, tasks and a cancellation hook."""

from ._ids import KeyScope as KeyScope
from .blocks import DbrunnerCredentials as DbrunnerCredentials
from .blocks import DbrunnerDatabase as DbrunnerDatabase
from .cancellation import cancel_jobs as cancel_jobs
from .tables import publish_table as publish_table
from .tables import to_dataframe as to_dataframe
from .tasks import dbrunner_call as dbrunner_call
from .tasks import dbrunner_call_async as dbrunner_call_async
from .tasks import dbrunner_migrate as dbrunner_migrate
from .tasks import dbrunner_migrate_async as dbrunner_migrate_async
from .tasks import dbrunner_query as dbrunner_query
from .tasks import dbrunner_query_async as dbrunner_query_async
from .tasks import dbrunner_save as dbrunner_save
from .tasks import dbrunner_save_async as dbrunner_save_async
from .tasks import dbrunner_statement as dbrunner_statement
from .tasks import dbrunner_statement_async as dbrunner_statement_async
from .tasks import dbrunner_transaction as dbrunner_transaction
from .tasks import dbrunner_transaction_async as dbrunner_transaction_async
from .tasks import dbrunner_wait_healthy as dbrunner_wait_healthy
from .tasks import dbrunner_wait_healthy_async as dbrunner_wait_healthy_async
from .tasks import retry_condition as retry_condition
