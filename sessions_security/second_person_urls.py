"""`/api/v1/admin/…` of what two people do, of reviews, and of seeing the system as somebody else."""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import impersonation_api, review_views, second_person_views

urlpatterns = [
    path_both("admin/approvals", second_person_views.Approvals.as_view(), name="approvals"),
    path_both(
        "admin/approvals/<uuid:request_id>/<str:decision>",
        second_person_views.Decision.as_view(),
        name="approval-decision",
    ),
    path_both("admin/access-reviews", review_views.Reviews.as_view(), name="access-reviews"),
    path_both(
        "admin/access-reviews/<uuid:review_id>", review_views.OneReview.as_view(), name="access-review"
    ),
    path_both(
        "admin/access-reviews/<uuid:review_id>/csv", review_views.Csv.as_view(), name="access-review-csv"
    ),
    path_both(
        "admin/access-reviews/<uuid:review_id>/finish",
        review_views.Finish.as_view(),
        name="access-review-finish",
    ),
    path_both(
        "admin/access-reviews/items/<uuid:item_id>", review_views.Item.as_view(), name="access-review-item"
    ),
    path_both("admin/refusals", review_views.Refusals.as_view(), name="refusals"),
    path_both("admin/impersonation", impersonation_api.Begin.as_view(), name="impersonation-begin"),
    path_both("admin/impersonation/stop", impersonation_api.Stop.as_view(), name="impersonation-stop"),
]
