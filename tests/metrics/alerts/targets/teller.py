"""A process that tells a webhook of one alert, for tests that kill it; by DSN, URL and alert id."""

from __future__ import annotations

import asyncio
import sys

from metrics_service.alerts.targets.groups import Timing
from metrics_service.alerts.targets.posting import Poster
from metrics_service.alerts.targets.targets import Targets
from metrics_service.alerts.targets.webhook import Webhook
from metrics_service.storage.notifications import NotificationLedger
from tests.metrics.alerts.targets.incidents import firing


async def main(dsn: str, url: str, alert_id: str) -> None:
    targets = Targets(
        [Webhook(Poster(url), "")], NotificationLedger(dsn), timing=Timing(0.1, 300.0, 3600.0)
    )
    await targets.restore([firing(alert_id)])
    targets.start()
    while True:
        await asyncio.sleep(0.05)
        if (
            not any(status.waiting for status in targets.status())
            and targets.counts()["webhook", "sent"]
        ):
            await targets.stop()
            return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
