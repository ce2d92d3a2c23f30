//! Lists: a page of items, and the marker that fetches the next one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many items a page has when the request does not say.
pub const DEFAULT_LIMIT: u32 = 100;
/// How many items a page has at most.
pub const MAX_LIMIT: u32 = 1000;

/// One page of a list, in the list's fixed order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give this as `marker` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What may be asked of one list: its filters, its page.
///
/// Every list of the contract has one, so that [`crate::Client::list`] and
/// [`crate::Client::every`] serve them all.
pub trait ListQuery: Serialize + Clone + Send + Sync {
    /// The view that the list holds.
    type Item: DeserializeOwned + Send;
    /// The segments of the list's path, below the address of the service.
    fn path(&self) -> Vec<String>;
    /// Continue after this marker.
    fn set_marker(&mut self, marker: String);
    /// Ask for the largest pages, where no size is asked for yet.
    fn whole_pages(&mut self);
}

macro_rules! list_query {
    (
        $(#[$doc:meta])*
        $name:ident -> $item:ty, $path:literal $(, { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, PartialEq, Eq, Debug, Default,
            serde::Serialize, serde::Deserialize, utoipa::IntoParams,
        )]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        pub struct $name {
            $($(
                $(#[$field_doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*)?
            /// Name or id of another project than the token's own; for admins.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub project: Option<String>,
            /// How many items at most: 1 to 1000, 100 when absent.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[param(minimum = 1, maximum = 1000)]
            pub limit: Option<u32>,
            /// Where to continue: the `next` of the page before.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub marker: Option<String>,
        }

        impl $crate::ListQuery for $name {
            type Item = $item;
            fn path(&self) -> Vec<String> {
                $path.split('/').map(str::to_owned).collect()
            }
            fn set_marker(&mut self, marker: String) {
                self.marker = Some(marker);
            }
            fn whole_pages(&mut self) {
                self.limit.get_or_insert($crate::page::MAX_LIMIT);
            }
        }
    };
}
pub(crate) use list_query;
