"""A strict fake of Airtable's REST API over real HTTP on loopback.

    with AirtableServer(requests_per_second=None) as airtable:
        table = airtable.credentials_table()
        record = table.add({"locationId": "loc-1"})
        client = Api(airtable.token, endpoint_url=airtable.url)
        airtable.inject(faults.unacknowledged(), kind="update")

It answers as the documentation says, refuses what Airtable refuses, and remembers every request and every cell
written. Where the documentation is silent it is strict, or chooses what is worse for a client:

- a listing keeps the records it chose on its first page, and shows their cells as they are when a page is read;
- an unknown query parameter, and an unknown key in a body, is 422;
- a missing record is 403 when named in the path, 422 in a batch;
- a request refused with 429 does not prolong the penalty, unless `penalty_restarts` is set;
- an error inside AND() or OR() is an error whatever the other arguments are;
- a text that is no ISO 8601 time is refused even where Airtable may guess;
- a date column takes a time and keeps its day alone, without a word;
- what lookups, rollups and the like show is said by the test, whatever they would compute;
- views other than the first grid, comments, attachments and `cellFormat=string` do not exist.
"""

from tests.world.airtable import columns, faults
from tests.world.airtable.columns import Column
from tests.world.airtable.errors import ApiError
from tests.world.airtable.faults import Injection
from tests.world.airtable.routes import Token
from tests.world.airtable.server import AirtableServer
from tests.world.airtable.tables import Base, Change, Table

__all__ = ["AirtableServer", "ApiError", "Base", "Change", "Column", "Injection", "Table", "Token", "columns", "faults"]
