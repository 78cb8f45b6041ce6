//! The program; see the library.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    scheduler_extender::app::run().await
}
