"""Private PostgreSQL and Redis for the demo, the tests and the bench.

    with servers.start() as running:            # throw-away: gone with the block, fsync off
        running.environment()                    # DATABASE_URL, MIGRATION_DATABASE_URL, REDIS_URL

    running = servers.start(Path(".demo"))       # kept: the same data, passwords and ports next time
    running.stop()

Both servers speak TLS only and stop with their starter, however it ends: a keeper process (keeper.py) owns
them and goes when its pipe closes. Nothing here imports Django: settings cannot load before these addresses
exist.
"""

from mestore.servers.errors import ServersUnavailableError
from mestore.servers.running import Servers, start
from mestore.servers.storage import remove

__all__ = ["Servers", "ServersUnavailableError", "remove", "start"]
